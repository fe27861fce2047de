"""Run the command line as ``python -m deepfake_detect``."""

from deepfake_detect.cli.main import main

if __name__ == "__main__":
    main()
