"""`resilience-kit config`: what an environment, a file or a preset comes to, and whether it is right."""
