"""What searches with Optuna share: studies that many processes and machines add to, and what a command line needs."""
