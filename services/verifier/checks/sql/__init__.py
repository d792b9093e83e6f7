"""`sql`: the query of a completion gives the rows of the reference query, on a real engine."""
