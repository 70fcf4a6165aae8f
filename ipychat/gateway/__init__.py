"""The services' server side, over any model."""
