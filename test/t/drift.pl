# No drift: whatever the application does and whatever happens to the server,
# in the end every cached score equals a recomputation (a minute of it).

use strict;
use warnings;

use Drift::Test;

Drift::Test::run(phases => 4, chunks => 25, every => 16, patience => 120);
