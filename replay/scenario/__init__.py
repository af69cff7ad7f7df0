"""What is asked: the requests, and how their load grows."""
