"""Batches -> logits. Only torch, transformers and timm here.

Shapes: B products, T of them with text, M with a photo; L tokens or patches, D a tower's width, C categories.
"""
