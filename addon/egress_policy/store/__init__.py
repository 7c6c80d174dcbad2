"""What is stated outside and kept: the policy file, read and watched."""
