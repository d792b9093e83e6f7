"""The kind `code`: programs that do what tests say."""
