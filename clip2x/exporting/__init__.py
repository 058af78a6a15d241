"""Trained recognisers as files for other programs: graphs with weights inside, weights alone, and the cards that describe them."""
