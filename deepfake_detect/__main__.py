"""What does ``python -m deepfake_detect`` do?"""

from deepfake_detect.cli.main import main

if __name__ == "__main__":
    main()
