"""The Docker Engine API over the engine. HTTP lives here and nowhere else."""
