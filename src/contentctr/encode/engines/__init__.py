"""Inference engines that run a frozen encoder in torch's place, and the choice among them."""
