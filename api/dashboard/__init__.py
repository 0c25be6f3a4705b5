"""The dashboard: static files and the routes that serve them; a client of REST and nothing else."""
