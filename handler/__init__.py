"""Visual emotion analysis at inference: stimuli, organism, response.

Everything that happens between the bytes of an image and the emotions it evokes. This package
travels whole inside every archive, so it imports nothing that an inference host lacks.
"""

__version__ = "0.1.0"
