"""The single checks of a dataset folder; `lumirkit.data_manifests.check` runs them all."""
