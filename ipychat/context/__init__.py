"""What of the notebook goes along with a prompt: expressions, values, files, images, cells.

Everything here is text or a message's part when it leaves; nothing is sent and nothing is kept.
What is cut is said where it is cut, and no cut leaves half of a known secret: whole ones are the
firewall's, which says so or is told to let them through.
"""
