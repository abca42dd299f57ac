"""The registration of whole datasets: weights and a pair list in, field files out, inside a container or outside."""
