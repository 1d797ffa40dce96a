print("nassync")
