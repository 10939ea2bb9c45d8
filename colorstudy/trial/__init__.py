"""The human trial: can people tell a coloured photograph from a true one?"""
