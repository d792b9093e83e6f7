"""Building the teacher's view: context (text) and alignment (tokens). Pure."""
