"""What is wrong with a running server, or soon will be: findings, each with its remedy."""
