# test/t/create_drop.pl, 200 times instead of 30.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";

# Here already: a file that "do" compiles is too late for INIT blocks.
use Reputation;

our $cycles = 200;
do "$FindBin::RealBin/../t/create_drop.pl" or die $@ || $!;
