"""torch's public interface to the launcher."""
