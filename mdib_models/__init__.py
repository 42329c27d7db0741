"""The words: what the data is, and nothing that moves it."""
