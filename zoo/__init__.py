"""The zoo: what is known of each published model, and the commands that put it there."""
