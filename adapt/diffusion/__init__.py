"""Diffusion without data: plug-and-play guidance (`ppap`) and one-step distillation (`tbcm`)."""
