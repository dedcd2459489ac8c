"""Dead letters: look at them, choose some, send them back or drop them."""
