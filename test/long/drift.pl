# The randomised drift test at length; test/t/drift.pl is the short one.

use strict;
use warnings;

use Drift::Test;

Drift::Test::run(phases => 60, chunks => 25, every => 16, patience => 120);
