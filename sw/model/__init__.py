"""Models of cost: here the published one that speed-ups are compared with."""
