"""Three independent readers judge a text."""
