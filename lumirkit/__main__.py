"""`python -m lumirkit`, the same as the command `lumirkit`; torchrun and srun start it so."""

from lumirkit.commands.main import main

main()
