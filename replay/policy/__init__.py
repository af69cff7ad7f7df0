"""What a policy is, what it sees, and the tools that policies share."""
