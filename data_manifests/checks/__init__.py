"""The single checks of a dataset folder; `data_manifests.check` runs them all."""
