# The randomised drift test at length; test/t/drift.pl is the short one.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../t";
use DriftTest;

DriftTest::run(phases => 60, chunks => 25, every => 16, patience => 120);
