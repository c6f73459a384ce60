"""Adapt & Diffuse: sample-adaptive photo restoration with latent diffusion. Pure torch; knows no host."""
