"""Generation engines behind one Protocol. Each lives in its own file with its own imports."""
