"""The simulated market: exchanges on loopback that speak the real ones' protocols (DESIGN.md section 6)."""
