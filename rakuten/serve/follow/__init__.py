"""Where the champion is published: a pointer on this machine, BentoML's store, or MLflow's alias."""
