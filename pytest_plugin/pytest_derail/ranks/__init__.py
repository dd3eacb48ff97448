"""Code of ``@pytest.mark.ranks``, in the process that runs pytest; ``worker`` runs in ranks."""
