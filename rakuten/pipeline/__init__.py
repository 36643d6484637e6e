"""The stages of dvc.yaml: what each depends on, and the flow that runs them."""
