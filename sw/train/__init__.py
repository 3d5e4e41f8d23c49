"""Training of networks: recipes, pictures, checkpoints, many processes (``python -m sw.train``)."""
