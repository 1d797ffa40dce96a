import Bandwidth
