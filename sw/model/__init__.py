"""Models of cost: cycles of compiled programs, and the published closed form that speed-ups are compared with."""
