"""The two providers of a prior: diffusers folders on disk, and the MODEL and VAE of a ComfyUI host."""
