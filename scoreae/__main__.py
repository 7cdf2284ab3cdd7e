"`python -m scoreae`: the command line."

import sys

from scoreae.commands.command_line import main

sys.exit(main())
