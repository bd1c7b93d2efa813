"""A service that loses no job: jokes are fetched from an API that may be down, and the queue waits for it."""
