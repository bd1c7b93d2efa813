"""One file or folder a policy, its options beside its rule. Policies do not know each other."""
