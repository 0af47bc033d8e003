# test/t/create_drop.pl, 200 times instead of 30.
use strict;
use warnings;
use FindBin;

our $cycles = 200;
do "$FindBin::RealBin/../t/create_drop.pl" or die $@ || $!;
