"""Is this machine, this checkout and what it talks to fit for work? One finding a check, with what mends it."""
