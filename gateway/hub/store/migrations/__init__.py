"""The migrations of the tables; read env.py first."""
