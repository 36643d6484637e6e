"""Runs and their record in MLflow. The only part that imports mlflow."""
