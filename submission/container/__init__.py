"""The submission's container: built, run as the challenge runs it, examined, and packed into the challenge's zip."""
