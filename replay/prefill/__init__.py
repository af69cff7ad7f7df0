"""What a prefill rule is: when ranks compute prompts, and how many tokens of them in a step."""
