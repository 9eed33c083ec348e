"""Plain values that every other room may use: predictions, limits, emotions, configurations.

Nothing here imports torch, torchvision or dlib, so that whatever computes nothing starts quickly.
"""
