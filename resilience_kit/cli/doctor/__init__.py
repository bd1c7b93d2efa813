"""`resilience-kit doctor`: checks of the installation and the environment."""
